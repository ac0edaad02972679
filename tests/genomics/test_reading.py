"""Every format gives the same matrix and names, in any region; what is damaged is refused."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from leptonhpc import genomics, store
from leptonhpc.errors import (
    DTypeError,
    NotAnArrayError,
    OptionError,
    OutputExistsError,
    ShapeError,
    StoreError,
)

from .conftest import write_plink

REGIONS = [((0, 61), (0, 240)), ((0, 1), (0, 1)), ((3, 58), (7, 239)), ((60, 61), (100, 131))]


@pytest.mark.parametrize("region", REGIONS)
def test_bed_is_read_region_by_region(gappy: Any, region: Any) -> None:
    (a, b), (c, d) = region
    found = genomics.read_bed(gappy.bed).calls.read(region)
    np.testing.assert_array_equal(found, gappy.calls[a:b, c:d])


def test_bed_agrees_with_bed_reader(gappy: Any) -> None:
    bed_reader = pytest.importorskip("bed_reader", reason="bed-reader is not installed")
    with bed_reader.open_bed(gappy.bed) as file:
        expected = file.read(dtype="int8")  # -127 where missing
        names = file.iid
    found = genomics.open_genotypes(gappy.prefix)
    np.testing.assert_array_equal(np.asarray(found.calls), np.where(expected < 0, -1, expected))
    np.testing.assert_array_equal(found.samples.sample_id, names)


@pytest.mark.parametrize("encoding", ["byte", "two-bit"])
@pytest.mark.parametrize("chunks", [None, (61, 240), (7, 11), (100, 1)])
def test_stored_cohort_is_the_same(gappy: Any, tmp_path: Path, encoding: Any, chunks: Any) -> None:
    original = genomics.read_bed(gappy.bed)
    stored = genomics.store_genotypes(original, tmp_path / "g", encoding=encoding, chunks=chunks)
    again = genomics.open_genotypes(tmp_path / "g")
    for region in REGIONS:
        np.testing.assert_array_equal(again.calls.read(region), original.calls.read(region))
    assert stored.calls.dtype == np.int8
    for table in ("samples", "variants"):
        before, after = (vars(getattr(g, table)) for g in (original, again))
        for name, values in before.items():
            np.testing.assert_array_equal(after[name], values)


def test_two_bits_take_a_quarter(complete: Any, tmp_path: Path) -> None:
    genomics.store_genotypes(genomics.read_bed(complete.bed), tmp_path / "g", encoding="two-bit")
    array = store.open_array(tmp_path / "g" / "calls")
    assert array.nbytes == -(-complete.calls.shape[0] // 4) * complete.calls.shape[1]


def test_dosages_keep_their_numbers(tmp_path: Path, rng: np.random.Generator) -> None:
    dosages = rng.uniform(0, 2, (9, 14)).astype(np.float32)
    dosages[2, 3] = np.nan
    stored = genomics.store_genotypes(genomics.open_genotypes(dosages), tmp_path / "g")
    np.testing.assert_array_equal(np.asarray(stored.calls), dosages)
    with pytest.raises(OptionError, match="do not fit in two bits"):
        genomics.store_genotypes(stored, tmp_path / "h", encoding="two-bit")


@pytest.mark.parametrize("chunks", [(240, 61, 2), (17, 10, 1)])
def test_vcf_zarr_is_counted(gappy: Any, tmp_path: Path, chunks: Any) -> None:
    calls = gappy.calls.T
    alleles = np.stack([(calls > 1).astype(np.int8), (calls > 0).astype(np.int8)], axis=2)
    alleles[calls < 0] = [-1, 0]  # half a call is no call
    dataset = xr.Dataset(
        {
            "call_genotype": (("variants", "samples", "ploidy"), alleles),
            "sample_id": ("samples", np.array([f"i{i}" for i in range(61)], object)),
            "variant_contig": ("variants", np.repeat([0, 1], 120)),
            "contig_id": ("contigs", np.array(["1", "X"], object)),
            "variant_position": ("variants", np.arange(240)),
            "variant_allele": (("variants", "alleles"), np.array([["A", "G"]] * 240, object)),
        }
    )
    path = tmp_path / "v.zarr"
    encoding = {"call_genotype": {"chunks": chunks}}
    dataset.to_zarr(path, zarr_format=2, consolidated=False, encoding=encoding)
    found = genomics.open_genotypes(path)
    for (a, b), (c, d) in REGIONS:
        np.testing.assert_array_equal(found.calls.read(((a, b), (c, d))), gappy.calls[a:b, c:d])
    assert found.variants.variant_id[121] == "X:121"
    assert found.variants.alternate[0] == "G"
    in_memory = genomics.open_genotypes(dataset)
    np.testing.assert_array_equal(np.asarray(in_memory.calls), gappy.calls)


def test_dataset_goes_out_and_comes_in(gappy: Any) -> None:
    original = genomics.read_bed(gappy.bed)
    dataset = original.to_xarray()
    np.testing.assert_array_equal(dataset.call_dosage_mask, gappy.calls.T < 0)
    again = genomics.open_genotypes(dataset)
    np.testing.assert_array_equal(np.asarray(again.calls), gappy.calls)
    np.testing.assert_array_equal(again.variants.contig, original.variants.contig)


def test_selection_is_that_of_numpy(gappy: Any, tmp_path: Path, rng: np.random.Generator) -> None:
    cohort = genomics.store_genotypes(
        genomics.read_bed(gappy.bed), tmp_path / "g", encoding="two-bit", chunks=(8, 9)
    )
    rows, columns = rng.random(61) < 0.4, np.sort(rng.permutation(240)[:50])
    chosen = cohort.select(samples=rows, variants=columns)
    expected = gappy.calls[rows][:, columns]
    np.testing.assert_array_equal(np.asarray(chosen.calls), expected)
    np.testing.assert_array_equal(chosen.calls.read(((2, 9), (5, 44))), expected[2:9, 5:44])
    assert list(chosen.variants.variant_id) == [f"rs{j}" for j in columns]


@pytest.mark.parametrize("cut", [1, 16, 2000])
def test_truncated_bed_is_refused_before_anything_runs(
    gappy: Any, tmp_path: Path, cut: int
) -> None:
    copy = _copied(gappy, tmp_path)
    data = copy.read_bytes()
    copy.write_bytes(data[:-cut])
    variant = (len(data) - cut - 3) // 16 + 1
    with pytest.raises(StoreError, match=rf"copy.bed' is truncated in variant {variant} of 240"):
        genomics.read_bed(copy)


def test_damaged_file_sets_are_refused(gappy: Any, tmp_path: Path) -> None:
    copy = _copied(gappy, tmp_path)
    data = copy.read_bytes()
    for changed, what in (
        (data + b"\0", "too long"), (b"PK" + data[2:], "begin"), (b"l\x1b\0" + data[3:], "order"),
    ):  # fmt: skip
        copy.write_bytes(changed)
        with pytest.raises(StoreError, match=what):
            genomics.read_bed(copy)
    copy.write_bytes(data)
    fam = copy.with_suffix(".fam")
    lines = fam.read_text().splitlines()
    fam.write_bytes(b"\xef\xbb\xbf" + fam.read_bytes())
    assert genomics.read_bed(copy).samples.family_id[0] == "f0"
    fam.write_bytes(fam.read_bytes().replace(b"i3", b"\xf6"))
    with pytest.raises(StoreError, match=r"copy\.fam' is no text in UTF-8"):
        genomics.read_bed(copy)
    fam.write_text("\n".join([*lines[:5], "f i 0", *lines[6:]]))
    with pytest.raises(StoreError, match="line 6 has 3"):
        genomics.read_bed(copy)
    fam.write_text("\n".join([lines[0], *lines[:-1]]))
    with pytest.raises(StoreError, match="'f0 i0' twice"):
        genomics.read_bed(copy)
    fam.unlink()
    with pytest.raises(StoreError, match=r"copy\.fam"):
        genomics.read_bed(copy)
    fam.write_text("\n".join(lines))
    bim = copy.with_suffix(".bim")
    rows = bim.read_text().splitlines()
    for line, what in (("1 rs3 2500 A G", "line 4 has 5"), ("1 rs3 0 -5 A G", r"-5 .* \(line 4\)"),
                       ("1 rs3 0 2.5 A G", "no whole number")):  # fmt: skip
        bim.write_text("\n".join([*rows[:3], line, *rows[4:]]))
        with pytest.raises(StoreError, match=what):
            genomics.read_bed(copy)


@pytest.mark.parametrize("more", [1, 2, 3])
def test_samples_that_fill_up_a_byte_are_told_from_people(
    complete: Any, tmp_path: Path, more: int
) -> None:
    """61 samples take as many bytes as 64: .fam files of 62 to 64 fit in length."""
    copy = _copied(complete, tmp_path)
    with copy.with_suffix(".fam").open("a") as fam:
        fam.writelines(f"g g{i} 0 0 0 -9\n" for i in range(more))
    with pytest.warns(UserWarning, match=f"last {more} of the {61 + more} samples .* 'g g0'"):
        genomics.read_bed(copy)


@pytest.mark.parametrize("less", [1, 2])
def test_calls_of_samples_that_the_fam_lacks_are_seen(
    complete: Any, tmp_path: Path, less: int
) -> None:
    write_plink(tmp_path / "copy", complete.calls[:59])
    fam = tmp_path / "copy.fam"
    people = fam.read_text().splitlines()
    fam.write_text("\n".join(people[less:]))
    with pytest.raises(StoreError, match=rf"copy\.bed' has calls of more than the {59 - less}"):
        genomics.read_bed(tmp_path / "copy")


def test_files_filled_up_with_what_is_no_call_are_read(complete: Any, tmp_path: Path) -> None:
    write_plink(tmp_path / "copy", complete.calls)
    bed = tmp_path / "copy.bed"
    data = np.frombuffer(bed.read_bytes(), np.uint8).copy()
    data[3 + 15 :: 16] |= 0b01010100  # three missing calls
    bed.write_bytes(data.tobytes())
    np.testing.assert_array_equal(np.asarray(genomics.read_bed(bed).calls), complete.calls)


@pytest.mark.parametrize("variants", [5, 240])
def test_a_person_like_the_filling_is_warned_of_where_chance_makes_none(
    complete: Any, tmp_path: Path, variants: int
) -> None:
    calls = complete.calls[:60, :variants].copy()
    calls[-1] = 2
    write_plink(tmp_path / "copy", calls)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        genomics.read_bed(tmp_path / "copy")
    assert len(found) == (variants == 240)
    calls[:] = 2
    write_plink(tmp_path / "copy", calls)
    genomics.read_bed(tmp_path / "copy")


def test_what_holds_no_genotypes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="nothing is stored"):
        genomics.open_genotypes(tmp_path / "nothing.zarr")
    with pytest.raises(ShapeError, match="samples by variants"):
        genomics.open_genotypes(np.zeros(3))
    with pytest.raises(DTypeError, match="holds complex128"):
        genomics.open_genotypes(np.zeros((3, 4), complex))
    for name in ("c.vcf.gz", "c.pgen"):
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(StoreError, match=rf"{name}' is of a format .*plink2 --make-bed"):
            genomics.open_genotypes(tmp_path / name)
    (tmp_path / "c.fam").write_text("")
    with pytest.raises(StoreError, match=r"c\.fam' has the names .* 'c\.bed': give that"):
        genomics.open_genotypes(tmp_path / "c.fam")
    with pytest.raises(NotAnArrayError, match="neither call_genotype nor call_dosage"):
        genomics.open_genotypes(xr.Dataset({"x": ("a", [1.0])}))


def test_output_is_not_replaced_unless_asked(tmp_path: Path) -> None:
    cohort = genomics.open_genotypes(np.ones((3, 4), np.int8))
    genomics.store_genotypes(cohort, tmp_path / "g")
    with pytest.raises(OutputExistsError):
        genomics.store_genotypes(cohort, tmp_path / "g")
    genomics.store_genotypes(cohort, tmp_path / "g", overwrite=True)


def test_selections_that_make_no_sense_are_refused() -> None:
    cohort = genomics.open_genotypes(np.ones((3, 4), np.int8))
    for wrong in (np.zeros(4, bool), [0, 9], [2, 1], [1, 1], np.ones(3, bool), [0.5]):
        with pytest.raises(OptionError):
            cohort.select(variants=wrong)


def _copied(cohort: Any, folder: Path) -> Path:
    for ending in (".bed", ".bim", ".fam"):
        data = cohort.prefix.with_suffix(ending).read_bytes()
        (folder / f"copy{ending}").write_bytes(data)
    return folder / "copy.bed"
