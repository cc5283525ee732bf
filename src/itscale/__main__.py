"""`python -m itscale`."""

from itscale.cli import main

if __name__ == "__main__":
    main()
