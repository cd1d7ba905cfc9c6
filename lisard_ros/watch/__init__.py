"""`lisard watch`: one page in the browser for a running node or a recording."""
