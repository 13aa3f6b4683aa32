"""Pictures, with plotly."""
