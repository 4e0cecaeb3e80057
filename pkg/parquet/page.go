package parquet

import (
	"encoding/binary"
	"fmt"
)

// page reads the values of a column from the content of its page.
type page struct {
	content     []byte
	of          Type
	levels      int64 // that are left
	repetitions levelReader
	definitions levelReader
	values      []byte // that are left
}

// begin begins to read a page of so many levels.
func (p *page) begin(content []byte, of Type, levels int64) (err error) {
	*p = page{content: content, of: of, levels: levels, values: content}
	most := byte(1)
	if of == Texts {
		if p.repetitions, err = p.levelsOf(1); err != nil {
			return fmt.Errorf("repetition levels: %w", err)
		}
		most = 2
	}
	if p.definitions, err = p.levelsOf(most); err != nil {
		return fmt.Errorf("definition levels: %w", err)
	}
	return nil
}

// levelsOf takes levels, which are most at most, from the beginning of the values.
func (p *page) levelsOf(most byte) (levelReader, error) {
	encoded, err := p.text()
	return levelReader{encoded: encoded, most: most}, err
}

// end returns an error unless everything was read.
func (p *page) end() error {
	if n := len(p.values); n > 0 {
		return fmt.Errorf("%d bytes after the last value: %w", n, ErrDamaged)
	}
	if p.levels > 0 || !p.definitions.ended() || !p.repetitions.ended() {
		return fmt.Errorf("more values than rows: %w", ErrDamaged)
	}
	return nil
}

// read reads the value of the next row.
func (p *page) read(v *Value) (err error) {
	v.Text, v.Texts, v.Integer = nil, v.Texts[:0], 0
	definition, repetition, err := p.nextLevels()
	if err == nil && repetition != 0 {
		err = fmt.Errorf("a list without a beginning: %w", ErrDamaged)
	}
	if v.Valid = definition > 0; !v.Valid || err != nil {
		return err
	}
	switch p.of {
	case Text:
		v.Text, err = p.text()
	case Texts:
		return p.readTexts(v, definition)
	default:
		v.Integer, err = p.integer()
	}
	return err
}

// readTexts reads a list after the levels of its first text.
func (p *page) readTexts(v *Value, definition byte) error {
	if definition == 1 {
		return nil
	}
	for {
		text, err := p.text()
		if err != nil {
			return err
		}
		v.Texts = append(v.Texts, text)
		if p.levels == 0 {
			return nil
		}
		if repetition, err := p.repetitions.peek(); err != nil || repetition == 0 {
			return err
		}
		if definition, _, err = p.nextLevels(); err != nil {
			return err
		}
		if definition != 2 {
			return fmt.Errorf("a list with a text that is absent: %w", ErrDamaged)
		}
	}
}

func (p *page) nextLevels() (definition, repetition byte, err error) {
	if p.levels == 0 {
		return 0, 0, fmt.Errorf("fewer values than rows: %w", ErrDamaged)
	}
	p.levels--
	if p.of == Texts {
		if repetition, err = p.repetitions.next(); err != nil {
			return 0, 0, err
		}
	}
	definition, err = p.definitions.next()
	return definition, repetition, err
}

// text takes a text and its length from the values.
func (p *page) text() ([]byte, error) {
	if len(p.values) < 4 {
		return nil, fmt.Errorf("the page ends early: %w", ErrDamaged)
	}
	n := binary.LittleEndian.Uint32(p.values)
	rest := p.values[4:]
	if uint64(n) > uint64(len(rest)) {
		return nil, fmt.Errorf("a text of %d bytes where %d are left: %w", n, len(rest), ErrDamaged)
	}
	p.values = rest[n:]
	return rest[:n:n], nil
}

func (p *page) integer() (int64, error) {
	if len(p.values) < 8 {
		return 0, fmt.Errorf("the page ends early: %w", ErrDamaged)
	}
	v := int64(binary.LittleEndian.Uint64(p.values))
	p.values = p.values[8:]
	return v, nil
}

// levelReader reads the levels that levelRun writes.
type levelReader struct {
	encoded []byte // runs that have not begun
	most    byte   // the highest level
	level   byte   // of the current run
	left    uint64
}

// next returns the next level.
func (r *levelReader) next() (byte, error) {
	level, err := r.peek()
	r.left--
	return level, err
}

// peek returns the next level, which next returns too.
func (r *levelReader) peek() (byte, error) {
	for r.left == 0 {
		run, n := binary.Uvarint(r.encoded)
		switch {
		case n <= 0 || len(r.encoded) <= n:
			return 0, fmt.Errorf("the levels end early: %w", ErrDamaged)
		case run&1 == 1:
			return 0, fmt.Errorf("levels that are packed as bits: %w", ErrUnsupported)
		}
		r.left, r.level, r.encoded = run>>1, r.encoded[n], r.encoded[n+1:]
		if r.level > r.most {
			return 0, fmt.Errorf("level %d, at most %d: %w", r.level, r.most, ErrDamaged)
		}
	}
	return r.level, nil
}

// ended reports whether every level was read.
func (r *levelReader) ended() bool { return r.left == 0 && len(r.encoded) == 0 }
