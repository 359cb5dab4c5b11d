//! Is it true? Ground truth by real retraining and by optimisation, and the figures that judge attribution methods by it.
