"""The round report: one self-contained HTML file written from a plain `ReportData`."""
