package cost

import "math"

// Alike returns the shares of tenants that send equally much.
func Alike(tenants int) []float64 {
	shares := make([]float64, tenants)
	for i := range shares {
		shares[i] = 1 / float64(tenants)
	}
	return shares
}

// PowerLaw returns shares that fall with a power of the rank, the largest first. The first of
// them together have the given part of all. It returns Alike if that is not more than their part
// of equal shares.
func PowerLaw(tenants, first int, part float64) []float64 {
	if first >= tenants || part <= float64(first)/float64(tenants) {
		return Alike(tenants)
	}
	low, high := 0.0, 10.0 // of the exponent
	for range 60 {
		if middle := (low + high) / 2; sum(powers(tenants, middle)[:first]) < part {
			low = middle
		} else {
			high = middle
		}
	}
	return powers(tenants, high)
}

// powers returns the shares for an exponent.
func powers(tenants int, exponent float64) []float64 {
	shares := make([]float64, tenants)
	for i := range shares {
		shares[i] = math.Pow(float64(i+1), -exponent)
	}
	total := sum(shares)
	for i := range shares {
		shares[i] /= total
	}
	return shares
}

func sum(values []float64) (total float64) {
	for _, v := range values {
		total += v
	}
	return total
}

// distinct returns how many of the tenants n independent messages are of, on average.
func distinct(shares []float64, n float64) (tenants float64) {
	for _, share := range shares {
		tenants += 1 - math.Pow(1-share, n)
	}
	return tenants
}

// Active returns how many of the tenants send an entry while so many arrive, on average.
func Active(shares []float64, entries float64) (tenants float64) {
	for _, share := range shares {
		tenants += -math.Expm1(-share * entries)
	}
	return tenants
}
