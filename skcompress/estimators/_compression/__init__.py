"""What the compressing estimators share: ``base`` runs the steps on the net of ``dense_net``."""
