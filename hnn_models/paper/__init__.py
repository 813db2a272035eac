"""The tables of Muramatsu & Yu (2021): their cells, the runs that fill them, the record of the results."""
