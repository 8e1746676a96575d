-- Which index has the records of which status.
local INDEX = {c = dc, f = df, x = dx, d = dd}
