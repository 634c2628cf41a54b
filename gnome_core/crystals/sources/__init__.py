"""Where crystals come from: files of many formats (`formats`), GNoME's release, Materials Project, OPTIMADE."""
