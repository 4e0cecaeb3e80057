package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// renderQueries is docs/queries.md.
func renderQueries(machine string, begun time.Time, took time.Duration, sizes querySizes, engines []*queryEngine, lists, counts []queryRow) string {
	var b strings.Builder
	b.WriteString("# Query times\n\nMeasured and written by `make bench` (cmd/bench); not edited by hand.\n\n")
	fmt.Fprintf(&b, "- Date: %s, within %s\n%s", begun.UTC().Format(time.DateOnly), took.Round(time.Second), machine)
	for _, e := range engines {
		if e.measured() {
			fmt.Fprintf(&b, "- %s: %s entries stored and indexed in %s%s\n", e.name, thousands(sizes.all), e.took.Round(time.Second), onDisk(e.bytes, sizes.all))
		} else {
			fmt.Fprintf(&b, "- %s: not measured; %s\n", e.name, e.absent)
		}
	}
	b.WriteString("\n")
	b.WriteString(paragraph(fmt.Sprintf("Each engine has the same %s one-KB entries, one a second. The big tenant has %s of them. The small tenant has %s, and so has each of %d others. In OpenSearch all tenants share one pool on a single node. If `make bench` starts it, it has a heap of 512 MB.",
		thousands(sizes.all), thousands(sizes.big), thousands(sizes.small), smallOnes-1)))
	b.WriteString(paragraph(fmt.Sprintf("Times are medians in milliseconds, as the use case sees them: without HTTP and API Gateway. A query is repeated %d times. If that takes longer than %s, it is repeated less often, but at least %d times. OpenSearch's cache of answers is emptied before each repetition. The machine does other work too, so compare rows, and do not compare machines.",
		queryRepetitions, queryBudget, minQueryRepetitions)))
	for _, text := range []string{
		"**" + cellNotAsked + "**: MongoDB is not asked this. It answers lists by its indexes while OpenSearch is down, and point reads always. Counts never go to it.",
		"**" + cellRefused + "**: the engine says how to narrow the query, and the API answers 422.",
		"**" + cellTooSlow + "**: the engine has a time limit, and the API answers 503.",
		"**" + cellAbsent + "**: the engine was not there.",
	} {
		b.WriteString(item(text))
	}
	fmt.Fprintf(&b, "\n## Lists\n\nA page of %d, the newest first · the oldest first.\n\n", audit.DefaultPageLimit)
	writeQueryTable(&b, "filter", engines, lists)
	fmt.Fprintf(&b, "\n## Counts\n\nThe %d largest groups. `GET /logs/stats` always adds the total and the distinct users.\n\n", audit.DefaultTop)
	writeQueryTable(&b, "aggregate", engines, counts)
	return b.String()
}

// onDisk tells the bytes of an entry, if the engine tells its size.
func onDisk(bytes int64, entries int) string {
	if bytes == 0 {
		return ""
	}
	return fmt.Sprintf(", %d bytes on disk for each", bytes/int64(entries))
}

func writeQueryTable(b *strings.Builder, title string, engines []*queryEngine, rows []queryRow) {
	fmt.Fprintf(b, "| %s |", title)
	for _, e := range engines {
		fmt.Fprintf(b, " %s, small | %s, big |", e.name, e.name)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", 2*len(engines)) + "\n")
	for _, row := range rows {
		fmt.Fprintf(b, "| %s | %s |\n", row.name, strings.Join(row.cells, " | "))
	}
}
