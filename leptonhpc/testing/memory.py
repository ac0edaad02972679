"""Memory of a process that runs many tests."""

STRAY_NBYTES = 32_000_000
"""What it may keep or map again beside a job, whose peak is measured in it: 8 to 20 MB were seen.

Only arrays that are larger tell of a plan that is wrong; closely measured jobs have own processes.
"""
