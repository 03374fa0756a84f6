"""What scripts/libero_doctor.py looks at."""
