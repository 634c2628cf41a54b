"""Units that are converted, and limits of what is physically plausible."""

EV_PER_CUBIC_ANGSTROM_IN_GPA = 160.21766208
EV_PER_CUBIC_ANGSTROM_IN_KBAR = 10 * EV_PER_CUBIC_ANGSTROM_IN_GPA

# eV/atom: no known solid is further from its elements (the Materials Project's reach from about -4.7 to +3); broken
# calculations and rows are.
PLAUSIBLE_E_FORM = 5.0
INSULATOR_GAP = 1.0  # eV, above which a crystal counts as an insulator (Nature 624, 80, 2023, Methods)
