"""What is measured and tabulated."""
