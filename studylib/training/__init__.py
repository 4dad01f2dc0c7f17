"""One loop for teachers and students, and what teachers give to it."""
