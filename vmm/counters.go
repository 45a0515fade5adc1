package vmm

// UserExits is how often vCPUs left the kernel for this process so far: for a
// port or memory access that no in-kernel device serves, or to be stopped.
func (m *VM) UserExits() uint64 {
	var n uint64
	for _, v := range m.vcpus {
		n += v.runs.Load()
	}
	return n
}

// Counters sums KVM's own statistics over all vCPUs, by KVM's names ("exits",
// "mmio_exits", "io_exits", "halt_exits"); empty where the kernel has none
// (before Linux 5.14).
func (m *VM) Counters() (map[string]uint64, error) {
	sum := make(map[string]uint64)
	for _, v := range m.vcpus {
		if v.stats == nil {
			continue
		}
		values, err := v.stats.Read()
		if err != nil {
			return nil, err
		}
		for name, n := range values {
			sum[name] += n
		}
	}
	return sum, nil
}
