"""Hint plans: which layers of the teacher teach which layers of the student, and how they are chosen."""
