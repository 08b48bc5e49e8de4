"""The somatic side: what makes goals run, pay and stop. Knows tools and traces, not memory."""
