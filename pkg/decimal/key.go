package decimal

// The parts of a key: the sign, the exponent, the digits. A byte-wise comparison of keys
// compares the numbers. A key consists of lower-case letters and digits.
const (
	signNegative = "a"
	zeroKey      = "b"
	signPositive = "c"
	// endNegative ends the key of a negative number. It sorts after all digits, because of two
	// negative numbers the one with more digits is smaller.
	endNegative    = "z"
	exponentOffset = 100 // makes exponents positive, with three digits
)

// Key returns a text whose byte order is the order of the numbers' values. Numbers that agree in
// their first MaxDigits digits have the same key.
func (n Number) Key() string {
	if n.digits == "" {
		return zeroKey
	}
	exponent := n.exponent + exponentOffset
	digits := string([]byte{'0' + byte(exponent/100), '0' + byte(exponent/10%10), '0' + byte(exponent%10)}) +
		n.digits[:min(len(n.digits), MaxDigits)]
	if n.negative {
		return signNegative + complement(digits) + endNegative
	}
	return signPositive + digits
}

// KeyOf returns the key of a number of JSON. It returns "" if Parse does not read the text.
func KeyOf(text string) string {
	n, ok := Parse(text)
	if !ok {
		return ""
	}
	return n.Key()
}

// complement replaces each digit d by 9-d, which reverses the order.
func complement(digits string) string {
	reversed := []byte(digits)
	for i, c := range reversed {
		reversed[i] = '0' + '9' - c
	}
	return string(reversed)
}

// After returns the smallest text that sorts after the key: as the first bound of a range
// it excludes the key, as the second one it includes it.
func After(key string) string { return key + "!" }

// Range is the keys k with From ≤ k and k < To, compared by bytes. An empty bound is open.
type Range struct{ From, To string }

// Contains reports whether a key, which is not "", is in the range.
func (r Range) Contains(key string) bool {
	return key != "" && r.From <= key && (r.To == "" || key < r.To)
}
