// Package importers reads files of audit records and turns each record into an Ocelot entry. It
// knows Ocelot's own entries, AWS CloudTrail, the GitHub audit log, the Okta system log, Google
// Cloud audit logs and Kubernetes audit events. The metadata of an entry is the whole record.
//
// Each format has a file of its own with its mapping. To add one, write its mapping and add it to
// mappings.
package importers

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Format says what a file has. See the constants.
type Format string

// The formats.
const (
	// Auto recognizes each record by its members. What it does not recognize is an entry.
	Auto Format = "auto"
	// NDJSON is one entry as JSON on each line.
	NDJSON Format = "ndjson"
	// JSON is entries in any layout: arrays, lines, or one after the other.
	JSON       Format = "json"
	CloudTrail Format = "cloudtrail"
	GitHub     Format = "github"
	Okta       Format = "okta"
	GCP        Format = "gcp"
	Kubernetes Format = "k8s"
)

// mapping turns the records of one format into entries.
type mapping struct {
	format Format
	// recognizes reports whether an object is a record of the format.
	recognizes func(r fields) bool
	// event reads a record. It leaves out what the record does not say.
	event func(r fields) event
}

// mappings has every format but Ocelot's own. The first that recognizes a record reads it.
var mappings = []mapping{
	{CloudTrail, isCloudTrail, cloudTrailEvent},
	{GitHub, isGitHub, gitHubEvent},
	{Okta, isOkta, oktaEvent},
	{GCP, isGCP, gcpEvent},
	{Kubernetes, isKubernetes, kubernetesEvent},
}

// Formats returns every format.
func Formats() []Format {
	all := []Format{Auto, NDJSON, JSON}
	for _, m := range mappings {
		all = append(all, m.format)
	}
	return all
}

// ParseFormat parses the name of a format.
func ParseFormat(name string) (Format, error) {
	if all := Formats(); !slices.Contains(all, Format(name)) {
		names := make([]string, len(all))
		for i, f := range all {
			names[i] = string(f)
		}
		return "", fmt.Errorf("must be one of %s", strings.Join(names, ", "))
	}
	return Format(name), nil
}

// Record is one record of a file.
type Record struct {
	// Line is where the record begins, from 1. A record that is wrapped in another has that one's.
	Line int
	// Number counts the records of the same line or document, from 1. It is 0 if a line has just one.
	Number int
	// Entry is the JSON text of the entry, without line breaks. It has no identity unless the
	// record has one. It may not be valid: the service judges it.
	Entry []byte
	// Original is the record's own text. It is empty if the record is longer than MaxRecordBytes.
	Original []byte
	// Err says why the record cannot become an entry; nil if it can.
	Err error
	// Note says why the record is passed over: it carries no event. It is empty if it does.
	Note string
}

// Place returns "line" or "line, record number".
func (r *Record) Place() string {
	if r.Number == 0 {
		return fmt.Sprint(r.Line)
	}
	return fmt.Sprintf("%d: record %d", r.Line, r.Number)
}

// MaxRecordBytes is the maximum size of a record, in bytes. It bounds the memory of a reader.
// A CloudTrail record has at most 1 MB; what wraps several in one line may have more.
const MaxRecordBytes = 16 << 20

// ErrRecordTooLarge means that a record has more than MaxRecordBytes.
var ErrRecordTooLarge = errors.New("is longer than 16 MiB")

// entryOf turns an object that is not a wrapper into an entry. An object of an unknown format is
// an entry. If the format is known beforehand, an object that is not recognized must at least name an
// action and a time.
func (f Format) entryOf(record []byte, r fields) ([]byte, error) {
	for _, m := range mappings {
		isOne := m.recognizes(r)
		if m.format != f && (f != Auto || !isOne) {
			continue
		}
		e := m.event(r)
		entry, err := e.entry(record)
		switch {
		case !isOne && err != nil:
			return nil, fmt.Errorf("is no record of %s: %w", f, err)
		case !isOne && e.action == "":
			return nil, fmt.Errorf("is no record of %s: it names no action", f)
		}
		return entry, err
	}
	return record, nil
}

// isForeign reports whether files of the format may have other records than entries.
func (f Format) isForeign() bool { return f != NDJSON && f != JSON }
