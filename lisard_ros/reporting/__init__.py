"""Pages, charts, drawn answers and what terminals show."""
