"""Problems, demonstrations, and the embedded task and model."""
