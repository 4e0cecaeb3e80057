package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// figure is one line of the table.
type figure struct {
	name     string
	measured string
	bound    string // "" if the figure has no bound
	held     bool   // only meaningful with a bound
	how      string // how it was measured, for the notes; "" if the line before says it
}

// atMost is a figure with an upper bound. format prints value and bound.
func atMost(name, format string, value, bound float64, how string) figure {
	return figure{
		name: name, measured: fmt.Sprintf(format, value), bound: "≤ " + fmt.Sprintf(format, bound), held: value <= bound, how: how,
	}
}

// atLeast is a figure with a lower bound. format prints value and bound.
func atLeast(name, format string, value, bound float64, how string) figure {
	return figure{
		name: name, measured: fmt.Sprintf(format, value), bound: "≥ " + fmt.Sprintf(format, bound), held: value >= bound, how: how,
	}
}

// noBound is a figure that is good to know.
func noBound(name, how, format string, args ...any) figure {
	return figure{name: name, measured: fmt.Sprintf(format, args...), how: how}
}

// table is the figures in Markdown.
func table(figures []figure) string {
	var b strings.Builder
	b.WriteString("| figure | measured | bound | held |\n|---|---|---|---|\n")
	for _, f := range figures {
		held := ""
		if f.bound != "" {
			held = map[bool]string{true: "yes", false: "**no**"}[f.held]
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", f.name, f.measured, f.bound, held)
	}
	return b.String()
}

// render is the whole document.
func render(machine string, begun time.Time, took time.Duration, figures []figure) string {
	var b strings.Builder
	b.WriteString("# Performance\n\n`make bench` (cmd/bench) measures and writes this page. Do not edit it by hand.\n\n")
	fmt.Fprintf(&b, "- Date: %s, within %s\n%s\n", begun.UTC().Format(time.DateOnly), took.Round(time.Second), machine)
	b.WriteString(table(figures))
	b.WriteString("\nHow each was measured:\n\n")
	for _, f := range figures {
		if f.how != "" {
			b.WriteString(item("**" + f.name + ".** " + f.how))
		}
	}
	return b.String()
}

// quantile returns the q-quantile (0 to 1) of values, which it sorts.
func quantile[T ~int64 | ~float64](values []T, q float64) T {
	slices.Sort(values)
	return values[int(q*float64(len(values)-1)+0.5)]
}

func median[T ~int64 | ~float64](values []T) T { return quantile(values, 0.5) }

// thousands prints a count as 1,000,000.
func thousands(n int) string {
	text := fmt.Sprint(n)
	for at := len(text) - 3; at > 0; at -= 3 {
		text = text[:at] + "," + text[at:]
	}
	return text
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
