"""What mining from a table of texts needs, whatever the library: settings, texts as row numbers, filters, tables.

numpy and pyarrow only, so that it can be tested where no model is installed.
"""
