"""What the distilling estimators share.

``teachers`` checks a teacher, ``teacher_targets`` fits it and asks it for targets,
``augmentation`` makes new rows, ``soft_targets`` collects the targets of all rows, ``base`` trains
the student, ``scores`` compares it with its teacher.
"""
