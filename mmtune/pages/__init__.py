"""HTML pages: the report, the review page, their plots, and the policy on what they show."""
