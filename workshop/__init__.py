"""How the project makes the base that ships."""
