"""`python -m provision` is the command line."""

from provision.cli import main

if __name__ == "__main__":
    main()
