"""Every metric once, and what reads them: dashboards as code, scrape configuration.

No clock is read here and nothing is served: whoever measures passes the numbers in.
"""
