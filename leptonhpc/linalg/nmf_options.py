"""What is asked of a non-negative factorisation, and whether it makes sense."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from numbers import Integral, Real
from typing import Any, Literal, get_args

from leptonhpc.blocks import BlockedArray
from leptonhpc.errors import DTypeError, OptionError, ShapeError

Loss = Literal["frobenius", "kullback-leibler"]
Method = Literal["sweeps", "compressed"]
Init = Literal["auto", "nndsvd", "nndsvda", "random"]


@dataclass(frozen=True)
class NmfOptions:
    """What is asked for."""

    rank: int
    loss: Loss = "frobenius"
    method: Method = "sweeps"
    init: Init = "auto"
    update_h: bool = True
    tol: float = 1e-4
    most_sweeps: int = 200
    seed: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Give the options as JSON can hold them."""
        return asdict(self)

    def start(self, short: int, *, given: bool) -> str:
        """Give how W and H begin: "given", "nndsvd", "nndsvda" or "random"."""
        if given:
            return "given"
        if self.init != "auto":
            return self.init
        if self.rank > short:
            return "random"
        return "nndsvd" if self.loss == "frobenius" else "nndsvda"

    def compressed_rank(self, short: int) -> int:
        """Give the modes of X that stand for it."""
        return min(short, self.rank + max(10, self.rank))

    def check(self, x: BlockedArray, w0: BlockedArray | None, h0: BlockedArray | None) -> None:
        """Refuse what makes no sense for this matrix and start."""
        _check_matrix(x)
        _check_numbers(self)
        _check_choices(self)
        _check_start(self, x, w0, h0)
        if self.rank > min(x.shape) and self.init in ("nndsvd", "nndsvda") and h0 is None:
            message = (
                f"init={self.init!r} needs rank up to {min(x.shape)} for {x.name} of shape "
                f"{x.shape}; found {self.rank}. Use init='random'"
            )
            raise OptionError(message)


def _check_matrix(x: BlockedArray) -> None:
    if x.ndim != 2 or 0 in x.shape:
        message = (
            f"nmf needs a matrix with at least one row and column; {x.name} has shape {x.shape}. "
            "For more dimensions use x.as_matrix(): the first axis by all others"
        )
        raise ShapeError(message)
    if x.dtype.kind == "c":
        message = f"nmf needs real numbers that are not negative; {x.name} has dtype {x.dtype}"
        raise DTypeError(message)


def _check_numbers(options: NmfOptions) -> None:
    for name in ("rank", "most_sweeps", "seed"):
        value = getattr(options, name)
        if isinstance(value, bool) or not isinstance(value, Integral):
            raise OptionError(f"nmf: {name} is a whole number; found {value!r}")
    if options.rank < 1 or options.most_sweeps < 1:
        message = (
            f"nmf: rank and most_sweeps are at least 1; found {options.rank} and "
            f"{options.most_sweeps}"
        )
        raise OptionError(message)
    tol: Any = options.tol
    if isinstance(tol, bool) or not isinstance(tol, Real) or not 0 <= float(tol) < 1:  # NaN too
        raise OptionError(f"nmf: tol is from 0 to below 1; found {tol!r}")


def _check_choices(options: NmfOptions) -> None:
    choices: tuple[tuple[str, Any], ...] = (("loss", Loss), ("method", Method), ("init", Init))
    for name, kind in choices:
        value = getattr(options, name)
        if value not in get_args(kind):
            message = f"nmf: {name} is one of {', '.join(get_args(kind))}; found {value!r}"
            raise OptionError(message)
    if options.loss == "kullback-leibler" and options.method == "compressed":
        message = (
            "method='compressed' is for loss='frobenius': singular vectors say nothing of the "
            "divergence. Use method='sweeps'"
        )
        raise OptionError(message)
    if options.loss == "kullback-leibler" and options.init == "nndsvd":
        message = (
            "init='nndsvd' has zeros, which multiplicative updates never leave; for "
            "loss='kullback-leibler' use init='nndsvda' or 'random'"
        )
        raise OptionError(message)


def _check_start(
    options: NmfOptions, x: BlockedArray, w0: BlockedArray | None, h0: BlockedArray | None
) -> None:
    if w0 is not None and (h0 is None or not options.update_h):
        message = "nmf: w0= is given together with h0=, and not with update_h=False"
        raise OptionError(message)
    if h0 is None and not options.update_h:
        raise OptionError("nmf: update_h=False solves for W with the H that is given: pass h0=")
    if h0 is not None and w0 is None and options.update_h:
        message = "nmf: h0= needs w0= beside it, or update_h=False, which leaves H as it is"
        raise OptionError(message)
    if h0 is not None and (options.init != "auto" or options.method != "sweeps"):
        raise OptionError("nmf: with h0= there is no init= and no method='compressed'")
    shapes = ("w0", w0, (x.shape[0], options.rank)), ("h0", h0, (options.rank, x.shape[1]))
    for name, array, shape in shapes:
        if array is not None and array.shape != shape:
            message = f"nmf: {name} has shape {shape} for {x.name} of shape {x.shape}"
            raise ShapeError(f"{message} and rank {options.rank}; found {array.shape}")
        if array is not None and array.dtype.kind == "c":
            raise DTypeError(f"nmf: {name} is real; {array.name} has dtype {array.dtype}")
