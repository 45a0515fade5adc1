package queue

// Buffers is guest memory in the order of its descriptors: how a driver cut a
// request has no meaning (virtio 1.2 §2.6.4). Read and Write consume it.
type Buffers [][]byte

// Len is what is left, in bytes.
func (b Buffers) Len() int {
	n := 0
	for _, s := range b {
		n += len(s)
	}
	return n
}

// Read copies out up to len(p) bytes and says how many there were.
func (b *Buffers) Read(p []byte) (n int) {
	for n < len(p) && len(*b) > 0 {
		n += b.consume(copy(p[n:], (*b)[0]))
	}
	return n
}

// Write copies in as much of p as there is room for and says how much.
func (b *Buffers) Write(p []byte) (n int) {
	for n < len(p) && len(*b) > 0 {
		n += b.consume(copy((*b)[0], p[n:]))
	}
	return n
}

// Take splits off the first n bytes, or all if there are fewer. They alias
// guest memory.
func (b *Buffers) Take(n int) (taken Buffers) {
	for n > 0 && len(*b) > 0 {
		s := (*b)[0]
		s = s[:min(n, len(s))]
		taken = append(taken, s)
		n -= b.consume(len(s))
	}
	return taken
}

// consume drops n bytes of the first piece, and returns n.
func (b *Buffers) consume(n int) int {
	if s := (*b)[0]; n < len(s) {
		(*b)[0] = s[n:]
	} else {
		*b = (*b)[1:]
	}
	return n
}
