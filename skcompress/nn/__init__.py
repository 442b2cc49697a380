"""Plain torch and numpy maths: no module in here knows scikit-learn or skorch."""
