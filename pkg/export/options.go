package export

import (
	"net/url"
	"slices"
	"strings"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/entryjson"
	"github.com/ocelot-audit/ocelot/pkg/search"
)

// The names of an export's own query parameters.
const (
	ParamFormat     = "format"
	ParamFields     = "fields"
	ParamTimeFormat = "time_format"
	ParamCompress   = "compress"
	ParamBOM        = "bom"
	ParamHold       = "hold"
)

// MaxHold is the maximum length of the id of a legal hold, in bytes. It is more than that of any.
const MaxHold = 64

// Params returns the names of an export's own query parameters.
func Params() []string {
	return []string{ParamFormat, ParamFields, ParamTimeFormat, ParamCompress, ParamBOM, ParamHold}
}

// ownParams returns the names of the parameters that select no entries.
func ownParams() []string { return append(Params(), search.ParamSort) }

// Format is the form of an exported file.
type Format string

// The formats.
const (
	JSON    Format = "json"    // one array
	NDJSON  Format = "ndjson"  // one entry a line
	CSV     Format = "csv"     // RFC 4180
	Parquet Format = "parquet" // a table with types
)

// Formats returns every format.
func Formats() []Format { return []Format{JSON, NDJSON, CSV, Parquet} }

// TimeFormat is the spelling of times in an exported file.
type TimeFormat string

// The spellings of times.
const (
	RFC3339     TimeFormat = "rfc3339"
	EpochMillis TimeFormat = "epoch_ms" // milliseconds since 1970, as a number
)

// TimeFormats returns every spelling of times.
func TimeFormats() []TimeFormat { return []TimeFormat{RFC3339, EpochMillis} }

// Compression is how an exported file is compressed.
type Compression string

// The compressions.
const (
	Plain Compression = ""
	Gzip  Compression = "gzip"
	Zstd  Compression = "zstd"
)

// Compressions returns every compression, without Plain.
func Compressions() []Compression { return []Compression{Gzip, Zstd} }

// Limits of the columns of an export.
const (
	MaxFields     = 200
	MaxFieldBytes = 512 // of one column's name
)

// Options are the form of an exported file.
type Options struct {
	Format Format
	// Columns are the columns in their order: members of an entry, or dotted paths below
	// metadata, before_state and after_state. nil: every member that an entry has, and in a
	// CSV or Parquet file DefaultColumns.
	Columns     []string
	TimeFormat  TimeFormat
	Compression Compression
	BOM         bool // a CSV file begins with the byte order mark of UTF-8
	// Hold is the id of a legal hold whose entries are exported, what has expired included; "": those
	// that a list shows.
	Hold string
}

// revealedFields returns the members that entries of a revealed export have beside those of every export.
func revealedFields() []string {
	return []string{entryjson.NameRevealed, entryjson.NameErased, entryjson.NameUnreadable}
}

// DefaultColumns returns the columns of a CSV or Parquet file for which no fields are named. All entries of
// an export are of one tenant, so they have no tenant_id.
func DefaultColumns() []string {
	return slices.DeleteFunc(entryjson.PublicFields(), func(name string) bool { return name == entryjson.NameTenant })
}

// ParseOptions reads an export's own parameters. further are members of an entry that columns can be beside
// those of every export. They are in a CSV or Parquet file by default. Faults are an *audit.ValidationError.
func ParseOptions(query url.Values, further ...string) (Options, error) {
	options, err := parseOptions(query, further)
	return options, audit.MergeInvalid(err, options.checkLines())
}

// parseOptions is ParseOptions for parameters that were accepted earlier, perhaps by another version.
func parseOptions(query url.Values, further []string) (Options, error) {
	p := optionParser{query: query, further: further}
	o := Options{
		Format:      choice(&p, ParamFormat, NDJSON, Formats()...),
		TimeFormat:  choice(&p, ParamTimeFormat, RFC3339, TimeFormats()...),
		Compression: choice(&p, ParamCompress, Plain, Compressions()...),
		BOM:         choice(&p, ParamBOM, "false", "true", "false") == "true",
		Columns:     p.columns(),
		Hold:        p.hold(),
	}
	if o.BOM && o.Format != CSV {
		p.fault(ParamBOM, "conflict", "must be given with format=csv only")
	}
	if o.Compression != Plain && o.Format == Parquet {
		p.fault(ParamCompress, "conflict", "must be left out with format=parquet, whose columns are compressed with zstd")
	}
	if o.Columns == nil && (o.Format == CSV || o.Format == Parquet) {
		o.Columns = append(DefaultColumns(), further...)
	}
	return o, audit.InvalidFields(p.faults)
}

// checkLines returns an *audit.ValidationError if a line of a CSV file can be empty. Most readers skip such
// a line, and the entry would be lost.
func (o *Options) checkLines() error {
	if o.Format != CSV || len(o.Columns) != 1 || slices.Contains(entryjson.RequiredFields(), o.Columns[0]) {
		return nil
	}
	return audit.Invalid("?"+ParamFields, "conflict",
		"must name a second field, for example id, with format=csv: an entry without %s would be an empty line, which most readers skip", o.Columns[0])
}

// optionParser reads parameters and collects their faults.
type optionParser struct {
	query   url.Values
	further []string // members of an entry
	faults  []audit.FieldError
}

func (p *optionParser) fault(name, code, detail string) {
	p.faults = append(p.faults, audit.FieldError{Pointer: "?" + name, Code: code, Detail: detail})
}

func (p *optionParser) single(name string) string {
	values := p.query[name]
	if len(values) > 1 {
		p.fault(name, "repeated", "must be given once")
	}
	return p.query.Get(name)
}

// choice returns one of the choices, otherwise if the parameter is not given.
func choice[T ~string](p *optionParser, name string, otherwise T, choices ...T) T {
	value := T(p.single(name))
	if value == "" {
		return otherwise
	}
	if !slices.Contains(choices, value) {
		texts := make([]string, len(choices))
		for i, c := range choices {
			texts[i] = string(c)
		}
		p.fault(name, "invalid_choice", "must be one of "+strings.Join(texts, ", "))
		return otherwise
	}
	return value
}

// hold reads the id of a legal hold. A script whose variable is empty would export what it did not mean to.
func (p *optionParser) hold() string {
	id := p.single(ParamHold)
	switch {
	case id == "" && p.query.Has(ParamHold):
		p.fault(ParamHold, "required", "must be the id of a legal hold, or be left out")
	case len(id) > MaxHold:
		p.faults = append(p.faults, audit.Invalid("?"+ParamHold, "too_long", "must be at most %d bytes", MaxHold).Fields...)
	case id != "" && slices.Contains(p.query[search.ParamSort], newestFirst):
		p.fault(search.ParamSort, "conflict", "must be timestamp, or be left out, with hold: its entries come in the order of their times")
	}
	return id
}

// newestFirst is the order of search.ParamSort that an export by a legal hold does not have.
const newestFirst = "-timestamp"

// columns reads the columns, which commas separate.
func (p *optionParser) columns() []string {
	text := p.single(ParamFields)
	if text == "" {
		return nil
	}
	names := strings.Split(text, ",")
	if len(names) > MaxFields {
		p.faults = append(p.faults, audit.Invalid("?"+ParamFields, "too_many", "must name at most %d fields", MaxFields).Fields...)
		return nil
	}
	for i, name := range names {
		switch {
		case len(name) > MaxFieldBytes:
			p.faults = append(p.faults, audit.Invalid("?"+ParamFields, "too_long", "must have names of at most %d bytes", MaxFieldBytes).Fields...)
		case !isColumn(name) && !slices.Contains(p.further, name):
			p.fault(ParamFields, "unknown_field", "must be members of an entry ("+strings.Join(entryjson.PublicFields(), ", ")+
				"), or paths such as metadata.plan below "+strings.Join(nested, ", "))
		case slices.Contains(names[:i], name):
			p.fault(ParamFields, "repeated", "must not name a field twice")
		default:
			continue
		}
		return nil
	}
	return names
}

// nested are the members that columns can name paths below.
var nested = []string{entryjson.NameMetadata, entryjson.NameBefore, entryjson.NameAfter}

func isColumn(name string) bool {
	if slices.Contains(entryjson.PublicFields(), name) {
		return true
	}
	member, path, _ := strings.Cut(name, ".")
	return path != "" && slices.Contains(nested, member) && isText(path)
}
