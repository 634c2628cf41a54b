"""Small shipped files; origin and licence of each in NOTICE."""
