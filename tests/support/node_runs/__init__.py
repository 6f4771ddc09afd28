"""The pack's nodes run with small inputs and files."""
