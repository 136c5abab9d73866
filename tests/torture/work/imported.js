self.imported = "imported";
