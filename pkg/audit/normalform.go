package audit

import "iter"

// Normalize returns an equivalent expression in normal form, so that a compiler
// meets only these cases:
//
//   - And{} matches every entry and Or{} matches none. Both stand only at the
//     top, never inside another expression. There is no nil.
//   - Any other And or Or has at least two parts. No part is of its parent's kind.
//   - Not contains a condition, an And or an Or, never another Not.
//   - Equals has at least one value, Text at least one word, Time and Received at least
//     one bound.
//
// The parts keep their order. Conditions that exclude or imply one another stay.
func Normalize(e Expr) Expr {
	switch e := e.(type) {
	case nil:
		return And{}
	case And:
		return normalizeAnd(e)
	case Or:
		return normalizeOr(e)
	case Not:
		return negate(Normalize(e.Expr))
	case Equals:
		if len(e.Values) == 0 {
			return Or{}
		}
	case Text:
		if len(e.Words) == 0 {
			return And{}
		}
	case Time:
		if e.From.IsZero() && e.To.IsZero() {
			return And{}
		}
	case Received:
		if e.From.IsZero() && e.To.IsZero() {
			return And{}
		}
	}
	return e
}

func normalizeAnd(exprs And) Expr {
	var parts And
	for _, e := range exprs {
		switch part := Normalize(e).(type) {
		case And: // And{} adds nothing
			parts = append(parts, part...)
		case Or:
			if len(part) == 0 {
				return Or{}
			}
			parts = append(parts, part)
		default:
			parts = append(parts, part)
		}
	}
	switch len(parts) {
	case 0:
		return And{}
	case 1:
		return parts[0]
	}
	return parts
}

func normalizeOr(exprs Or) Expr {
	var parts Or
	for _, e := range exprs {
		switch part := Normalize(e).(type) {
		case Or: // Or{} adds nothing
			parts = append(parts, part...)
		case And:
			if len(part) == 0 {
				return And{}
			}
			parts = append(parts, part)
		default:
			parts = append(parts, part)
		}
	}
	switch len(parts) {
	case 0:
		return Or{}
	case 1:
		return parts[0]
	}
	return parts
}

// negate returns the normal form of Not{e} for an expression in normal form.
func negate(e Expr) Expr {
	switch e := e.(type) {
	case And:
		if len(e) == 0 {
			return Or{}
		}
	case Or:
		if len(e) == 0 {
			return And{}
		}
	case Not:
		return e.Expr
	}
	return Not{e}
}

// ReplaceConditions returns the expression with each condition
// replaced by the expression that replace returns for it.
func ReplaceConditions(e Expr, replace func(condition Expr) Expr) Expr {
	switch e := e.(type) {
	case nil:
		return nil
	case And:
		parts := make(And, len(e))
		for i := range e {
			parts[i] = ReplaceConditions(e[i], replace)
		}
		return parts
	case Or:
		parts := make(Or, len(e))
		for i := range e {
			parts[i] = ReplaceConditions(e[i], replace)
		}
		return parts
	case Not:
		return Not{ReplaceConditions(e.Expr, replace)}
	default:
		return replace(e)
	}
}

// Conditions yields each condition of the expression in order: what is no And, Or or Not.
func Conditions(e Expr) iter.Seq[Expr] {
	return func(yield func(Expr) bool) { yieldConditions(e, yield) }
}

func yieldConditions(e Expr, yield func(Expr) bool) (more bool) {
	var parts []Expr
	switch e := e.(type) {
	case nil:
	case And:
		parts = e
	case Or:
		parts = e
	case Not:
		return yieldConditions(e.Expr, yield)
	default:
		return yield(e)
	}
	for _, part := range parts {
		if !yieldConditions(part, yield) {
			return false
		}
	}
	return true
}

// SplitNegations separates the parts of an And. negative has the expressions
// inside its Nots, positive its other parts.
func (a And) SplitNegations() (positive, negative []Expr) {
	for _, part := range a {
		if not, ok := part.(Not); ok {
			negative = append(negative, not.Expr)
		} else {
			positive = append(positive, part)
		}
	}
	return positive, negative
}

// CountConditions returns the number of conditions that Conditions yields.
func CountConditions(e Expr) int {
	n := 0
	for range Conditions(e) {
		n++
	}
	return n
}
