"""What developers run: fault campaign, soak, comparison with rejax, traffic between devices."""
