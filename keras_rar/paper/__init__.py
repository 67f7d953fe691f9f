"""What reproducing the paper needs: its data, networks and settings."""
