package main

import (
	"encoding/json"
	"net/netip"
	"net/url"
	"slices"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/search"
)

// namedQuery is a query as a client sends it. values returns its parameters, which select the
// sample and entries like it.
type namedQuery struct {
	name   string
	values func(sample *audit.Entry) url.Values
}

// fixed returns a query with the same parameters for every tenant: names and values in turn.
func fixed(name string, parameters ...string) namedQuery {
	return namedQuery{name, func(*audit.Entry) url.Values { return valuesOf(parameters...) }}
}

func valuesOf(parameters ...string) url.Values {
	values := url.Values{}
	for i := 0; i < len(parameters); i += 2 {
		values.Add(parameters[i], parameters[i+1])
	}
	return values
}

// listQueries returns every kind of filter, in the order of the table.
func listQueries() []namedQuery {
	queries := []namedQuery{fixed("no filter")}
	for _, field := range audit.FilterFields() {
		queries = append(queries, namedQuery{"`" + string(field) + "`", func(sample *audit.Entry) url.Values {
			return valuesOf(string(field), sample.Values(field)[0])
		}})
	}
	return slices.Concat(queries, []namedQuery{
		fixed("two values of `action`", "action", "DELETE", "action", "order.ship"),
		fixed("`action` and `severity`", "action", audit.ActionView, "severity", "ERROR"),
		{"`user_id` and `action`", func(sample *audit.Entry) url.Values {
			return valuesOf("user_id", sample.UserID, "action", audit.ActionView)
		}},
		fixed("`metadata.region`, a third of the entries", "metadata.region", "eu-central-1"),
		fixed("`metadata.version`, a twentieth", "metadata.version", "4.18.7"),
		fixed("`metadata.service`, all", "metadata.service", "checkout"),
		within("`from` and `to`, an hour", time.Hour),
		within("`from` and `to`, a day", 24*time.Hour),
		within("a day and `action`", 24*time.Hour, "action", audit.ActionView),
		text("a word in 2 % of the messages", rareWord),
		text("a word in all messages", "order"),
		text("a phrase", `"by card and confirmed"`),
		text("the beginning of a word", "refun*"),
		text("two words", "parcel refunded"),
		text("either of two words", "refunded OR carrier"),
		text("without a word", "-order"),
		text("a word and `action`", rareWord+" action:"+audit.ActionView),
		text("`severity>=ERROR`", "severity>=ERROR"),
		text("no entry has the word", "nowhere"),
		{"the beginning of a `user_id`", func(sample *audit.Entry) url.Values {
			return valuesOf(search.ParamQuery, `user_id:`+sample.UserID[:len(sample.UserID)-1]+`*`)
		}},
		{"the beginning of a `session_id`", func(sample *audit.Entry) url.Values {
			return valuesOf(search.ParamQuery, `session_id:`+sample.SessionID[:len(sample.SessionID)*2/3]+`*`)
		}},
		text("the beginning of every `resource_id`", "resource_id:order-*"),
		{"the beginning of `metadata.trace`, one in 16 of a value for each entry", beginningOfTrace(1)},
		{"the beginning of `metadata.trace`, one in 256", beginningOfTrace(2)},
		text("`metadata.latency_ms>=495`, one in a hundred", "metadata.latency_ms>=495"),
		text("`metadata.latency_ms>100`, four in five", "metadata.latency_ms>100"),
		text("`has:session_id`", "has:session_id"),
		text("`has:metadata.trace`, a value for each entry", "has:metadata.trace"),
		{"a network of 65,536 addresses", func(sample *audit.Entry) url.Values {
			return valuesOf(search.ParamQuery, "ip_address:"+netip.PrefixFrom(sample.IPAddress.Unmap(), 16).Masked().String())
		}},
		{"`received_at`, an hour", func(sample *audit.Entry) url.Values {
			from := sample.ReceivedAt.Truncate(time.Hour)
			return valuesOf(search.ParamQuery, "received_at>="+from.Format(time.RFC3339)+" received_at<"+from.Add(time.Hour).Format(time.RFC3339))
		}},
	})
}

// beginningOfTrace returns the query of traces that begin with so many digits of the sample's.
func beginningOfTrace(digits int) func(sample *audit.Entry) url.Values {
	return func(sample *audit.Entry) url.Values {
		var metadata struct{ Trace string }
		_ = json.Unmarshal(sample.Metadata, &metadata) // cannot fail: the entry was accepted
		return valuesOf(search.ParamQuery, "metadata.trace:"+metadata.Trace[:digits]+"*")
	}
}

func text(name, q string) namedQuery { return fixed(name, search.ParamQuery, q) }

// within returns a query for a time range around the sample, with further parameters.
func within(name string, length time.Duration, parameters ...string) namedQuery {
	return namedQuery{name, func(sample *audit.Entry) url.Values {
		from := sample.Timestamp.Add(-length / 2).Truncate(time.Minute)
		values := valuesOf(parameters...)
		values.Set(search.ParamFrom, from.Format(time.RFC3339))
		values.Set(search.ParamTo, from.Add(length).Format(time.RFC3339))
		return values
	}}
}

// countQuery is an aggregate as the index is asked for it.
type countQuery struct {
	name    string
	request audit.StatsRequest
	filter  func(sample *audit.Entry) audit.Filter // nil: every entry
}

func by(name string, fields ...audit.Field) countQuery {
	return countQuery{name: name, request: audit.StatsRequest{GroupBy: fields, Top: audit.DefaultTop}}
}

func histogram(name string, interval time.Duration, fields ...audit.Field) countQuery {
	return countQuery{name: name, request: audit.StatsRequest{Interval: interval, GroupBy: fields, Top: audit.DefaultTop}}
}

func (q countQuery) of(where audit.Expr) countQuery {
	q.filter = func(*audit.Entry) audit.Filter { return audit.Filter{Where: where} }
	return q
}

// withinADay restricts the aggregate to the sample's day in UTC.
func (q countQuery) withinADay() countQuery {
	q.filter = func(sample *audit.Entry) audit.Filter {
		day := sample.Timestamp.Truncate(24 * time.Hour)
		return audit.Filter{From: day, To: day.Add(24 * time.Hour)}
	}
	return q
}

// countQueries returns every kind of aggregate, in the order of the table.
func countQueries() []countQuery {
	var (
		region   = audit.MetadataField("region")
		severe   = audit.Equals{Field: audit.FieldSeverity, Values: []string{"ERROR"}}
		refunded = audit.Text{Words: []string{rareWord}}
	)
	queries := []countQuery{
		{name: "total"},
		{name: "distinct users", request: audit.StatsRequest{Distinct: true}},
	}
	for _, field := range audit.FilterFields() {
		queries = append(queries, by("by `"+string(field)+"`", field))
	}
	return slices.Concat(queries, []countQuery{
		by("by `metadata.region`, 3 values", region),
		by("by `metadata.latency_ms`, 500 values", audit.MetadataField("latency_ms")),
		by("by `metadata.trace`, a value for each entry", audit.MetadataField("trace")),
		by("by `action` and `severity`", audit.FieldAction, audit.FieldSeverity),
		by("by `action` and `resource_type`", audit.FieldAction, audit.FieldResourceType),
		by("by `user_id` and `action`", audit.FieldUserID, audit.FieldAction),
		by("by `user_id` and `resource_id`", audit.FieldUserID, audit.FieldResourceID),
		by("by `action` and `metadata.region`", audit.FieldAction, region),
		histogram("histogram by hour", time.Hour),
		histogram("histogram by day", 24*time.Hour),
		histogram("histogram by day, and by `severity`", 24*time.Hour, audit.FieldSeverity),
		countQuery{name: "total within a day"}.withinADay(),
		by("by `action` within a day", audit.FieldAction).withinADay(),
		by("by `user_id` within a day", audit.FieldUserID).withinADay(),
		by("by `action`, of one `severity`", audit.FieldAction).of(severe),
		by("by `user_id`, of a word in 2 %", audit.FieldUserID).of(refunded),
		histogram("histogram by day, of a word in 2 %", 24*time.Hour).of(refunded),
	})
}
