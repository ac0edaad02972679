"""Make ``python -m leptonhpc`` the same as the command ``leptonhpc``."""

from leptonhpc.cli import main

if __name__ == "__main__":
    main()
