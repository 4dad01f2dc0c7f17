"""From rows to intervals, tables, figures and sentences. Knows numbers only: no models, no
torch."""
