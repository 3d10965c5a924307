package tracer

// nameScope adds the name of the interface, which the programs have read in its namespace.
func (t *Tracer) nameScope(s *Scope, netNSCookie uint64) {
	if s.ID == 0 {
		return
	}
	var name bpfInterfaceName
	if err := t.coll.Maps[bpfMapInterfaces].Lookup(bpfInterface{NetnsCookie: netNSCookie, Index: s.ID}, &name); err != nil {
		return // the interface was gone, or the map has dropped it
	}
	comm := Comm{}
	for i, c := range name.Name {
		comm[i] = byte(c)
	}
	s.Interface = comm.String()
}
