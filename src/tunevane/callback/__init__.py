"""What people configure and extend."""
