"""The base of the compressing estimators: ``base`` runs the steps on the net of ``dense_net``."""
