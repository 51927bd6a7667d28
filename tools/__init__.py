"""What the developers run: a campaign of faults, a long run watched from outside, a comparison with rejax."""
