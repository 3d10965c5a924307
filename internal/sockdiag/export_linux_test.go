package sockdiag

// ByFamily makes c ask as it does where the kernel lists one family at a time.
func (c *Conn) ByFamily() { c.byFamily = true }
