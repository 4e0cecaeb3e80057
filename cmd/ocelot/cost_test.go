package main

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ocelot-audit/ocelot/pkg/cost"
)

func TestParseDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0s": 0, "90m": 90 * time.Minute, "24h": 24 * time.Hour, "7d": 7 * day, "2w": 14 * day, "7y": 7 * 365 * day,
		"1h30m": 90 * time.Minute, "1d12h": 36 * time.Hour, "200y": 200 * 365 * day,
	} {
		if got, err := parseDuration(text); err != nil || got != want {
			t.Errorf("%s: got %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "7", "d", "-1h", "+1h", "1.5h", "1 h", "1h ", "1ms", "201y", "99999999999999999999s", "9999999999s", "1e3s", "١h"} {
		if got, err := parseDuration(text); err == nil {
			t.Errorf("%q: got %v, want an error", text, got)
		}
	}
}

func TestRates(t *testing.T) {
	for text, want := range map[string]float64{
		"0/day": 0, "1/month": 1, "2.5k/month": 2500, "3M/day": 3e6 * cost.DaysPerMonth, "1/s": 365.25 * 24 * 3600 / 12, "1000G/month": 1e12,
	} {
		var got rateFlag
		if err := got.UnmarshalText([]byte(text)); err != nil || math.Abs(float64(got)-want) > want*1e-9 {
			t.Errorf("%s: got %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "5", "5/hour", "-5/s", "1e6/day", "NaN/s", "Inf/s", "5 /s", "1001G/month", strings.Repeat("9", 400) + "/s"} {
		var got rateFlag
		if err := got.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q: got %v, want an error", text, got)
		}
	}
}

func TestMoney(t *testing.T) {
	for usd, want := range map[float64]string{0: "0.00", 0.005: "0.01", 999.994: "999.99", 1000: "1,000.00", 1234567.891: "1,234,567.89"} {
		if got := money(usd); got != want {
			t.Errorf("%v: got %s, want %s", usd, got, want)
		}
	}
}

// Each flag reaches the workload that is priced.
func TestCostOfFlags(t *testing.T) {
	got := command(t.Context(), strings.NewReader(""), 0, "cost", "--entries", "90M/month", "--bytes", "2000", "--batch", "1", "--tenants", "50",
		"--retention", "7y", "--searchable", "90d", "--searches", "1000/month", "--peak", "500/s", "--engine", "atlas", "-o", "json")
	if got.code != exitOK {
		t.Fatalf("got exit code %d, want %d: %s", got.code, exitOK, got.err)
	}
	var answer struct {
		Workload map[string]any `json:"workload"`
		Parts    []costPart     `json:"parts"`
		Total    costPart       `json:"total"`
	}
	if err := json.Unmarshal([]byte(got.out), &answer); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"entries_per_month": 90e6, "entry_bytes": 2000.0, "entries_per_request": 1.0, "tenants": 50.0, "retention_days": 2555.0,
		"searchable_days": 90.0, "searches_per_month": 1000.0, "peak_per_second": 500.0, "engine": "atlas",
	}
	if diff := cmp.Diff(want, answer.Workload); diff != "" {
		t.Errorf("the workload differs (-want +got):\n%s", diff)
	}
	sum := 0.0
	for _, p := range answer.Parts {
		sum += p.USD
	}
	if math.Abs(sum-answer.Total.USD) > 0.01 || sum == 0 {
		t.Errorf("the total is %v, want the sum of the parts, %v", answer.Total.USD, sum)
	}
}
