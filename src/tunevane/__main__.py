"""`python -m tunevane`."""

from tunevane.cli.main import main

if __name__ == "__main__":
    main()
