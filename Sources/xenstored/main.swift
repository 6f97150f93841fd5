print("xenstored")
