"""The parts of the distilling estimators.

``teachers`` checks a teacher, ``teacher_targets`` fits it and computes its targets,
``augmentation`` makes new rows, ``soft_targets`` collects the targets of all rows, ``base`` trains
the student, ``scores`` compares it with its teacher.
"""
