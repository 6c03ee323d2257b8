-- wrk's figures as one line of JSON. With the argument `distinct` every request carries another header value.
local count = 0
local before, behind

local function distinct()
   count = count + 1
   return before .. count .. behind
end

function init(args)
   if args[1] == "distinct" then
      wrk.headers["X-Request-Id"] = "@"
      local head = wrk.format()
      local at = head:find("@", 1, true)
      before, behind = head:sub(1, at - 1) .. "5c0de", head:sub(at + 1)
      request = distinct
   end
end

function done(summary, latency)
   local e = summary.errors
   io.write(string.format(
      '\n{"duration_us": %d, "requests": %d, "bytes": %d, "p50_us": %d, "p99_us": %d, "refused": %d, "failed": %d}\n',
      summary.duration, summary.requests, summary.bytes, latency:percentile(50), latency:percentile(99),
      e.status, e.connect + e.read + e.write + e.timeout))
end
