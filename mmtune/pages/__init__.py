"""HTML pages: the report, the review page, their plots, and what a page may show."""
